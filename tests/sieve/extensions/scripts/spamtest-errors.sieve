require ["spamtest", "virustest"];
if spamtest :percent "50" { stop; }
if spamtest ["5", "6"] { stop; }
if virustest :percent "5" { stop; }
