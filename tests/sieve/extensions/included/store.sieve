require ["fileinto"]; fileinto "Included";
