require "variables";
set "a-b" "x";
set "1" "x";
set "frop.x" "x";
set "x" "${frop.x}";
set :lower :upper "x" "x";
set "x" "${33}";
