require ["vnd.tamis.stage", "vnd.tamis.envelope", "variables"];
stage "rcpt" {
    rewrite_recipient "${env.helo}";
}
