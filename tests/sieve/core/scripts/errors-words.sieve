# 1 and 2: words that are none; their arguments are not looked at
frop :foo "x";
if friep "x" 3 { keep; }
# Reported once
frop;
# 3 and 4: tags
redirect :frop "a@example.org";
if header :is :contains "subject" "x" { keep; }
# 5 to 7: arguments
redirect;
redirect ["a@example.org"];
redirect "a@example.org" "b@example.org";
# 8: a value
redirect "not an address";
# 9: elsif without if
elsif true { keep; } else { keep; }
# 10 and 11: blocks
keep { stop; }
if true;
# 12: a test as a command
header "subject" "x";
