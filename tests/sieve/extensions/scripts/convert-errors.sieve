require "convert";
convert "text" "text/plain" "a=b";
convert "text/html" "plain" "a=b";
convert "text/html" "text/plain" "charset";
convert "text/html" "text/plain";
