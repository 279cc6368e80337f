require ["reject", "copy"]; redirect :copy "a@example.org"; reject "x";
