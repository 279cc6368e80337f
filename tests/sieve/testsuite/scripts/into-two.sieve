require "fileinto"; fileinto "Two";
