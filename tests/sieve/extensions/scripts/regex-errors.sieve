require ["regex", "comparator-i;ascii-numeric"];
if header :regex "subject" "(a" { stop; }
if header :regex "subject" ["[a", "a", "b)"] { stop; }
if header :regex :comparator "i;ascii-numeric" "subject" "a" { stop; }
if size :regex :over 10 { stop; }
