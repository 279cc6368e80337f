require ["vnd.dovecot.pipe", "vnd.dovecot.filter", "vnd.dovecot.execute", "variables"];
pipe;
pipe "";
pipe "../cat";
filter "${name}";
execute :input "x" :pipe "a";
execute :output "a b" "a";
