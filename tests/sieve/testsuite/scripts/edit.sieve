require ["editheader", "imap4flags"]; addheader "X-Edited" "yes"; addflag "seenbyfirst";
