"""`python -m packaged`: relative imports and arguments as in any program."""

import sys

from litellm import completion

from . import __name__ as package

answer = completion(model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], mock_response="from a module")
print(package, sys.argv[1:], answer.choices[0].message.content)
