require ["include", "variables"]; global "seen"; set "seen" "${seen}p";
