require "editheader";
addheader "X:Y" "v";
deleteheader "a b";
deleteheader :last "x";
addheader "X";
deleteheader;
