require "fileinto";
frop;
fileinto 3;
keep "x";
