require ["include"]; include "store";
