require ["imap4flags"];
setflag;
addflag 3;
setflag "v" "a";
if hasflag { keep; }
redirect :flags "a" "a@example.org";
