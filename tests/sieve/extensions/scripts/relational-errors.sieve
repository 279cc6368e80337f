require "relational";
if header :value "xx" "subject" "1" { keep; }
if header :value 3 "subject" "1" { keep; }
if header :count "subject" "1" { keep; }
