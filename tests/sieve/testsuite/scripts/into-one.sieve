require "fileinto"; fileinto "One";
