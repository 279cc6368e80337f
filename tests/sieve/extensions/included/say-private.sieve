require ["include", "variables"]; set "private" "theirs"; set "global.shared" "${private}";
