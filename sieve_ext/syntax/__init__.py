"""The front end: octets to tokens to a tree, with every mistake reported and none fatal."""

from sieve_ext.syntax.lexer import Lexer, Token
from sieve_ext.syntax.parser import Parser
from sieve_ext.syntax.tree import Argument, Call, Number, TagName, Text, TextList

__all__ = ["Argument", "Call", "Lexer", "Number", "Parser", "TagName", "Text", "TextList", "Token"]
