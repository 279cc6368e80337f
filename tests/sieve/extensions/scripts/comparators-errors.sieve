require "comparator-i;ascii-numeric";
if header :comparator "i;frop" "subject" "x" { keep; }
if header :contains :comparator "i;ascii-numeric" "subject" "1" { keep; }
if header :comparator "i;unicode-casemap" "subject" "x" { keep; }
