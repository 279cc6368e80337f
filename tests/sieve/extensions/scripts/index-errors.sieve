require "index";
if header :last "x" "a" { stop; }
if header :index 0 "x" "a" { stop; }
if header :index "1" "x" "a" { stop; }
if exists :index 1 "x" { stop; }
