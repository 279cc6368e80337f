require ["include"]; include "loop-1";
