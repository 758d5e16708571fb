"""Chat templates that would take minutes, gigabytes, or both; some while they are compiled."""

# ruff: noqa: E501 - a template reads best on its line

from __future__ import annotations

BIG = "9" * 12

HOSTILE: dict[str, str] = {
    "loop": "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "loop over words": "{% for a in range(99999) %}{% for b in range(99999) %}{{ messages[0].role }}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "recursion": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "recursive loop": "{% for a in [[1]] recursive %}{{ loop([a, a]) }}{% endfor %}",
    "call block": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 40 + "x" + "{% endcall %}" * 40,
    "text times": f"{{{{ 'x' * {BIG} }}}}",
    "text times, never run": f"{{% if false %}}{{{{ 'x' * {BIG} }}}}{{% endif %}}",
    "list times": f"{{{{ [0] * {BIG} }}}}",
    "power": "{{ 10 ** (10 ** 10) }}",
    "power, never run": "{% if false %}{{ 10 ** (10 ** 10) }}{% endif %}",
    "product": "{% set n = namespace(x=7 ** 999) %}{% for i in range(99999) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "doubling with +": "{% set n = namespace(x='x') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "doubling with ~": "{% set n = namespace(x='x') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "doubling blocks": "{% set n = namespace(x='x') %}{% for i in range(99) %}{% set y %}{{ n.x }}{{ n.x }}{% endset %}"
    "{% set n.x = y %}{% endfor %}{{ n.x }}",
    "doubling lists": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "doubling tuples": "{% set n = namespace(x=1) %}{% for i in range(99) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ n.x }}",
    "doubling objects": "{% set n = namespace(x=1) %}{% for i in range(99) %}{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}"
    "{{ n.x }}",
    "doubling dict()": "{% set n = namespace(x=1) %}{% for i in range(99) %}{% set n.x = dict(a=n.x, b=n.x) %}{% endfor %}{{ n.x }}",
    "doubling list + list": "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "deep": "{% set n = namespace(x=[]) %}{% for i in range(99999) %}{% set n.x = [n.x] %}{% endfor %}{{ n.x }}",
    "replace": "{% set n = namespace(x='xx') %}{% for i in range(9) %}{% set n.x = n.x.replace('x', n.x) %}{% endfor %}{{ n.x }}",
    "replace filter": "{% set n = namespace(x='xx') %}{% for i in range(9) %}{% set n.x = n.x|replace('x', n.x) %}{% endfor %}{{ n.x }}",
    "join": "{% set x = 'x' * 9999999 %}{{ x.join(range(99999)|map('string')) }}",
    "join filter": "{% set x = 'x' * 9999999 %}{{ range(99999)|join(x) }}",
    "center": f"{{{{ 'x'|center({BIG}) }}}}",
    "center, method": f"{{{{ 'x'.center({BIG}) }}}}",
    "many centers": "{% for i in range(99999) %}{{ 'x'.ljust(99999) }}{% endfor %}",
    "indent": f"{{{{ 'x\\nx'|indent({BIG}) }}}}",
    "indent with text": "{{ ('x\\n' * 999999)|indent('x' * 99999) }}",
    "format": f"{{{{ '%{BIG}d' % 1 }}}}",
    "format star": "{{ '%*d' * 999 % ((99999, 1) * 999) }}",
    "format filter": f"{{{{ '%{BIG}d'|format(1) }}}}",
    "format method": f"{{{{ '{{:>{BIG}}}'.format(1) }}}}",
    "format method, nested": "{{ ('{:{w}}' * 99999).format(*range(9999), w=99999) }}",
    "format repeated": "{{ ('{0}' * 99999).format('x' * 9999999) }}",
    "expandtabs": "{{ ('\\t' * 999999).expandtabs(99999) }}",
    "translate": "{{ ('x' * 9999999).translate({120: 'y' * 99999}) }}",
    "tojson": f"{{{{ messages|tojson(indent={BIG}) }}}}",
    "lists of lists": "{{ ([range(99999)] * 49999)|map('list')|list|length }}",
    "sum of lists": "{{ ([range(99999)] * 49999)|map('list')|sum(start=[])|length }}",
    "lipsum": f"{{{{ lipsum(n={BIG}) }}}}",
    "output": "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    "to_bytes": f"{{{{ (1).to_bytes({BIG}, 'big') }}}}",
    "zfill": f"{{{{ 'x'.zfill({BIG}) }}}}",
    "long source": "{# " + "x" * (1 << 20) + " #}",
    "deep source": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "deep blocks": "{% if 1 %}" * 500 + "{% endif %}" * 500,
    "long number": "{{ " + "9" * 100_000 + " }}",
    "files": "{% include '/etc/passwd' %}",
    "python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.system('touch owned') }}",
    "hiding the look": "{% macro look() %}{% endmacro %}{% set environment = 1 %}{% for a in range(99999) %}"
    "{% for b in range(99999) %}{% endfor %}{% endfor %}",
}  # fmt: skip

# Harmless: every construct that the bounds have a hand in.
CONSTRUCTS: tuple[str, ...] = (
    "{% for m in messages %}{{ loop.index ~ m.role ~ [m.role, 1] ~ {'a': m.content} ~ (m.role, 2) }}{% endfor %}",
    "{{ messages|map(attribute='role')|join(', ') }}{{ messages|length * 2 }}{{ 'a' * 3 + 'b' }}{{ '%05.1f %s' % (1.5, 'x') }}",
    "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list }}{{ messages|tojson(indent=2) }}",
    "{{ '{:>8}|{x}'.format('a', x='b') }}{{ 'a,b'.split(',')|reverse|join('-') }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ [1] + [2] }}",
    "{% set n = namespace(x=[]) %}{% for m in messages %}{% set n.x = n.x + [m.role] %}{% endfor %}{{ n.x }}{{ n.x[::-1] }}",
    "{% macro f(a, b=2) %}<{{ a }}{{ b }}>{{ caller() if caller else '' }}{% endmacro %}{{ f(1) }}{% call f(3) %}in{% endcall %}",
    "{% for a, b in messages[0].items() %}{{ a }}={{ b }};{% endfor %}{{ messages[0]|dictsort }}{{ none }}{{ undefined_name }}",
    "{% filter upper %}x{{ messages[0].content|indent(2) }}{% endfilter %}{{ messages|groupby('role')|length }}{{ 'x'|center(9) }}",
    "{% generation %}{% set inside = 1 %}{{ inside }}{% endgeneration %}{{ inside is defined }}{{ range(5)|batch(2)|list }}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}{% if i > 4 %}{% break %}{% endif %}{{ i }}{% endfor %}",
)
