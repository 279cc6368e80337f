require ["include", "variables"];
set "a" "1";
global "a";
global ["b", "c d"];
set "global.x.y" "1";
