require ["foreverypart", "mime", "extracttext", "variables"];
if header :type "content-type" "text" { keep; }
if header :anychild "content-type" "text" { keep; }
if address :mime :type "from" "text" { keep; }
break;
break :name "x";
extracttext "x";
foreverypart :name "a" { break :name "other"; }
foreverypart { foreverypart { foreverypart { foreverypart { foreverypart { keep; } } } } }
foreverypart;
