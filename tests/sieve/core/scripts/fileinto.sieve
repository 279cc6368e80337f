require "fileinto";
fileinto "a";
