require "extlists";
if header :list "subject" "no list" { stop; }
redirect :list "nolist";
if valid_ext_list 3 { stop; }
