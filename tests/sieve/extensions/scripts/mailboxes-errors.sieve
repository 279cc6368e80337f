require ["fileinto", "mailbox", "special-use", "mboxmetadata"];
fileinto :specialuse "Junk" "x";
if mailboxexists 3 { keep; }
if metadataexists "x" { keep; }
