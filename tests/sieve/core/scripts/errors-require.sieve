# 1 to 3: capabilities that are none
require ["frop", "fileinto", "keep"];
require "comparator-i;frop";
keep;
# 4 and 5: too late
require "envelope";
if true { require "variables"; }
