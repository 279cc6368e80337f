require ["imap4flags", "fileinto", "mailbox"];
setflag "\\Draft";
fileinto :create "Flags";
