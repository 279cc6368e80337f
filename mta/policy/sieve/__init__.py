"""The administrator's policy in Sieve: what it may say, how it is loaded, run and carried out.

`dialect` puts the language together, one module a capability (`stages net reply envelope route queue`);
`program` loads the files; `facts` is what a script may know of a session; `decision` turns what scripts have
asked for into one verdict; `policy` asks them at each stage, the site's before the base policy.
"""
