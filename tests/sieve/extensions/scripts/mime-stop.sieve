require ["foreverypart", "mime", "fileinto"];
foreverypart {
    fileinto "Somewhere";
    if header :mime "x-test" "AA" { stop; }
}
discard;
