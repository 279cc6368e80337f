require "enotify"; notify "mailto:a@example.com"; notify "mailto:b@example.com";
