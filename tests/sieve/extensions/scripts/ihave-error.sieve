require "ihave";
if not ihave "frop" { error "this is the end"; }
discard;
