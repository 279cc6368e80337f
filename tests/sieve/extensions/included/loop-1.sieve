require ["include"]; include "loop-2";
