require ["include"]; include "none"; include :global "none"; include :optional "none";
