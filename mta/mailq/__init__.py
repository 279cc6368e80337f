"""What is in the queue, as text: listings like Postfix's, tables, filters. Pure."""
