require "ihave"; error "not today";
