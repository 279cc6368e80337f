require "ihave";
if ihave "date" { frop; }
