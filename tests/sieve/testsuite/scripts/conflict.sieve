require ["reject", "fileinto"];
fileinto "INBOX";
reject "no";
