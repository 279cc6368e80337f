require "enotify";
notify;
notify "a";
notify "http://example.com";
notify "mailto:a@example.com?subject=%zz";
notify :importance "4" "mailto:a@example.com";
notify :from "bad" "mailto:a@example.com";
notify :options "x" "mailto:a@example.com";
