require ["fileinto", "imap4flags"]; if header "x-edited" "yes" { fileinto "Two"; }
