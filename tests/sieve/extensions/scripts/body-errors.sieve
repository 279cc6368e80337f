require "body";
if body :content "text" :raw "x" { stop; }
if body :content 3 "x" { stop; }
if body :content "x" { stop; }
