"""The templates of make_jinja_goldens.py, in groups. A case is a template, or (template, variables)."""

VARIABLES = {
    "s": "Hello, World", "e": "", "u": "żółw é 漢字 ß", "sp": "  a  b\t c \n", "q": "it's \"q\" \\ \n\t\u200b\x7f",
    "n": 7, "z": 0, "neg": -7, "f": 2.5, "big": 1e16, "tiny": 1e-05, "t": True, "no": False, "nothing": None,
    "l": [3, 1, 2], "ls": ["b", "A", "c"], "le": [], "nested": [[1, "x"], [2, None]],
    "d": {"b": 1, "a": "x", "items": 5, "z": None}, "de": {},
    "users": [{"name": "Bo", "age": 3, "tags": ["x"]}, {"name": "al", "age": 1}, {"name": "Cy", "age": 2, "tags": []}],
    "html": "<a href=\"x\">&'",
    "lines": "one\ntwo\r\n\nthree",
}

EXPRESSIONS = r"""
1 + 2 * 3 - 4 / 2
7 // 2
-7 // 2
7 // -2
7 % -3
-7 % 3
7.5 // 2
-7.5 % 2
2 ** 10
2 ** -1
2 ** 3 ** 2
-2 ** 2
2.0 ** 0.5
1 / 3
10 / 5
1e16 / 1
big
tiny
f * 2
0.1 + 0.2
1.0
100000.0 * 10000000000
1e22
123456789.123456789
-0.0
1.5e300 * 1e10
n + f
t + 1
t * 3
t + t
-t
+f
- n
not n
not e
n and e
e or n
nothing or z
z or nothing
n and f and s
(1, 2) + (3,)
[1] + l
s + e
'a' 'b' "c"
'x' * 3
3 * 'ab'
'x' * -1
[0] * 3
2 * (1, 2)
s ~ n ~ nothing ~ t ~ f ~ l
1 ~ 2
missing ~ 'a'
1 < 2 < 3
1 < 3 < 2
3 > 2 == 2
1 == 1.0
t == 1
'a' < 'b'
'Z' < 'a'
[1, 2] < [1, 3]
(1,) < (1, 2)
'é' > 'z'
1 != 2
nothing == none
'ell' in s
'x' not in s
3 in l
'3' in l
'a' in d
1 in d
'a' in missing
missing in l
none in [none]
'' in s
1.0 in l
t in [1]
s[0]
s[-1]
s[100]
u[1]
u[-1]
u[7]
l[0]
l[-1]
l[9]
d['a']
d.a
d.items
d['items']
d['q']
d.q
nested[0][1]
nested[1].1
l.0
(1,2,3)[1]
s[1:3]
s[:-1]
s[::-1]
s[::2]
s[5:1:-2]
s[-3:]
u[1:4]
u[::-1]
l[1:]
l[::-1]
l[-2:]
l[5:]
l[:100]
l[2:0]
(1,2,3)[::2]
range(10)[2:8:3]
'a' if n else 'b'
'a' if z else 'b'
'a' if z
('a' if z) is defined
1 if t else 2 if no else 3
'x' if no else 'y' if no else 'z'
{'a': 1, 'b': [1, 2.0, none, true, 'x']}
{}
[]
()
(1,)
{1: 'a', 'b': {}}
{'a': 1, 'a': 2}
[1, [2, (3, 4)], {'k': 'v'}]
{true: 1, 1: 2}
q
[q]
[u]
['it\'s']
["\"'"]
[s, n, f, t, nothing]
d
users[0]
{'x': q}
['\u200b', '\x00', 'é', '\U0001F600', '\xad']
nested
[missing]
"\n\t\\\x41\u00e9\101\q"
0x1F
0b101
0o17
1_000
1_0.5
1e3
1.5E-3
00
range(5)
range(2, 8, 3)
range(5, 0, -2)
range(0)
range(3)|list
range(3)[1]
range(5)[-1]
3 in range(5)
range(2, 9) == range(2, 9)
dict(a=1, b=2)
dict([('x', 1)])
dict({'y': 2}, z=3)
dict()
namespace(a=1).a
namespace(a=1)['a']
namespace(a=1)
dict(a=1) == {'a': 1}
l is iterable
n is iterable
s is sequence
d is sequence
d is mapping
l is mapping
nothing is none
missing is defined
n is number
t is number
t is integer
n is integer
f is integer
f is float
s is string
t is boolean
t is true
n is true
no is false
z is false
e is false
n is odd
n is even
f is even
10 is divisibleby 5
10 is divisibleby(3)
n is eq 7
n is equalto(7)
n is ne 7
n is gt 3
n is lt 3
n is ge 7
n is le 6
n is == 7
s is upper
'ABC' is upper
'abc' is lower
'A1' is upper
'1' is upper
'upper' is filter
'nope' is filter
'defined' is test
n is in [7, 8]
n is not in [7]
3 is in l
s is in 'Hello, World!'
none is sameas none
t is sameas true
1 is sameas true
missing is undefined
range is callable
s is callable
missing is none
missing is iterable
missing is sequence
missing is string
range(3) is sequence
(l|map('abs')) is sequence
(l|map('abs')) is iterable
not missing
missing == missing
missing == none
missing == ''
not n is defined
n is defined and f is defined
n is not none
"""

FILTERS = r"""
s|length
l|length
d|count
u|length
missing|length
range(4)|length
sp|trim
'xxaxx'|trim('x')
s|upper
u|upper
u|lower
'ǅ ß ﬁ İ'|lower
'hello wORLD foo-bar (x) it\'s'|title
'élan ß'|title
'hELLO'|capitalize
'ßa'|capitalize
n|string
nothing|string
l|string
missing|default('x')
e|default('x')
e|default('x', true)
e|d('x', boolean=True)
nothing|default('x')
z|d(9, true)
l|join
l|join(', ')
ls|join('-')
users|join(', ', attribute='name')
[1, none, 'a', 2.5]|join('|')
s|join('.')
l|first
l|last
le|first
le|last
s|first
s|last
u|last
d|first
d|last
l|list
s|list
d|list
range(3)|list
missing|list
ls|map('upper')|list
ls|map('upper')|join
users|map(attribute='name')|list
users|map(attribute='tags', default=[])|list
users|map(attribute='tags.0', default='-')|list
nested|map(attribute=0)|list
l|map('string')|map('length')|list
users|map('length')|list
ls|map('replace', 'b', 'B')|list
none|map('upper')|list
l|select('odd')|list
l|reject('odd')|list
l|select|list
[0, 1, '', 'a']|select|list
[0, 1]|reject|list
users|selectattr('tags')|map(attribute='name')|list
users|selectattr('age', 'gt', 1)|map(attribute='name')|join(',')
users|rejectattr('age', 'equalto', 1)|list|length
users|selectattr('name', 'in', ['Bo', 'al'])|list|length
users|selectattr('tags', 'defined')|list|length
l|select('in', [1, 2])|list
l|select('>', 1)|list
d|items|list
de|items|list
missing|items|list
d|dictsort
{'b': 1, 'A': 2, 'c': 0}|dictsort
{'b': 1, 'A': 2}|dictsort(true)
{'b': 1, 'a': 2}|dictsort(by='value')
{'b': 1, 'a': 2}|dictsort(reverse=true)
l|sort
l|sort(reverse=true)
ls|sort
ls|sort(case_sensitive=true)
users|sort(attribute='age')|map(attribute='name')|list
users|sort(attribute='name')|map(attribute='name')|list
ls|sort(true, true)
users|sort(attribute='age,name')|map(attribute='name')|list
[1, 'a']|sort
['b', 'B', 'a', 'A']|unique|list
[1, 2, 1, 3, 2]|unique|list
['b', 'B']|unique(true)|list
users|unique(attribute='age')|list|length
s|replace('l', 'L')
s|replace('l', 'L', 2)
'abc'|replace('', '-')
'aaa'|replace('aa', 'b')
n|replace('7', 'x')
s|replace('zz', '')
u|replace('é', 'e')
'42'|int
'4.9'|int
'x'|int
'x'|int(5)
'0x1F'|int(base=16)
'1f'|int(0, 16)
f|int
-2.7|int
t|int
nothing|int(3)
' 7 '|int
'1_000'|int
'-5'|int
l|int
'1e3'|int
'0b11'|int(0, 2)
'٣'|int
'4.5'|float
'x'|float
'x'|float(1.5)
n|float
'1e3'|float
'inf'|float
' 2 '|float
nothing|float
'nan'|float
'-Infinity'|float
neg|abs
f|abs
-2.5|abs
t|abs
2.5|round
3.5|round
-2.5|round
2.675|round(2)
1234.5678|round(-2)
f|round(0, 'ceil')
2.1|round(method='floor')
n|round
15|round(-1)
25|round(-1)
n|round(1, 'ceil')
1.005|round(2)
lines|indent
lines|indent(2)
lines|indent(2, true)
lines|indent(2, blank=true)
lines|indent('> ', true, true)
''|indent
'a\n'|indent(1)
html|escape
html|e
html|safe
html|safe|e
(html|e)|e
html|forceescape
(html|safe) + '<'
'<' + (html|safe)
(html|safe) ~ '<'
html|safe|upper
[html|safe]
(html|safe)|replace('<', '>')
('a'|safe) * 2
('<b>'|safe)[0]
s|reverse
l|reverse|list
u|reverse
d|reverse|list
range(3)|reverse|list
l|batch(2)|list
l|batch(2, 0)|list
range(7)|batch(3, 'x')|list
range(7)|slice(3)|list
range(7)|slice(3, 'x')|list
range(2)|slice(3)|list
l|batch(0)|list
l|sum
[0.1, 0.2]|sum
users|sum(attribute='age')
l|sum(start=10)
le|sum
l|min
l|max
ls|min
ls|max
ls|max(case_sensitive=true)
users|max(attribute='age')
le|min
['a', 'B']|min
s|wordcount
u|wordcount
'a b-c'|wordcount
'foo bar baz qux'|truncate(9)
'foo bar baz qux'|truncate(9, true)
'foo bar baz qux'|truncate(11)
'foo bar baz qux'|truncate(11, false, '...', 0)
u|truncate(4, true, '', 0)
'%s-%s'|format(1, 'a')
'%(a)s'|format(a=3)
'%05.2f'|format(f)
s|center(20)
'ab'|center(5)
'abc'|center(6)
[s|center(15)]
d|attr('items')|string|length > 0
d|attr('a')
s|attr('upper')() if false else 1
users|groupby('age')|list|length
[{'a': 1, 'b': 2}, {'a': 1, 'b': 3}, {'a': 0}]|groupby('a')
[{'a': 'x'}, {'a': 'X'}]|groupby('a')|map('first')|list
users|groupby('missing', default=1)|map(attribute='grouper')|list
d|tojson
l|tojson
s|tojson
u|tojson
q|tojson
nothing|tojson
t|tojson
f|tojson
tiny|tojson
big|tojson
html|tojson
users|tojson
users|tojson(indent=2)
d|tojson(indent=4)
le|tojson(indent=2)
de|tojson(indent=2)
{'a': []}|tojson(indent=1)
u|tojson(ensure_ascii=true)
'\U0001F600\x7f'|tojson(true)
d|tojson(separators=(',', ':'))
d|tojson(sort_keys=true)
{'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(indent=2, sort_keys=true)
{1: 2, none: 3, true: 4, 1.5: 5}|tojson
(1, 2)|tojson
'nan'|float|tojson
l|tojson(indent='--')
l|tojson(indent=0)
{'a': '\u2028</script>'}|tojson
missing|tojson
namespace(a=1)|tojson
(l|map('abs'))|tojson
{(1, 2): 3}|tojson
range(3)|tojson
d.keys()|tojson
l|tojson(foo=1)
"""

METHODS = r"""
s.upper()
s.lower()
u.upper()
'ß'.upper()
'ŉ'.upper()
'İ'.lower()
'ΑΣ ΑΣΑ'.lower()
'hello wORLD'.title()
"they're bill's".title()
s.swapcase()
'hELLO'.capitalize()
'ǆ'.title()
sp.strip()
sp.lstrip()
sp.rstrip()
'xyabcyx'.strip('xy')
'ééaé'.strip('é')
'\u3000a\u2003'.strip()
'aXa'.lstrip('a')
'a\n\n'.rstrip('\n')
s.strip(none)
s.split()
sp.split()
'a,b,,c'.split(',')
'a,b,c'.split(',', 1)
'a b  c '.split(none, 1)
' a  b c '.split(maxsplit=1)
'a,b,c'.rsplit(',', 1)
' a b  c '.rsplit(none, 1)
' a b  c '.rsplit()
''.split()
''.split(',')
s.split('o')[-1]
'abc'.split('')
'a<x>b<x>c'.split('<x>')
'aaa'.split('aa')
'aaaa'.rsplit('aa')
s.split(sep=', ')
lines.splitlines()
lines.splitlines(true)
''.splitlines()
'a\n'.splitlines()
'a\x0bb\x85c'.splitlines()
s.startswith('Hell')
s.startswith('ello', 1)
s.startswith(('x', 'He'))
s.endswith('ld')
s.endswith('l', 0, 4)
s.endswith(('a', 'd'))
s.startswith('')
s.startswith('', 100)
u.startswith('ó', 1)
s.find('l')
s.find('zz')
s.rfind('l')
s.find('l', 5)
s.index('l')
s.index('zz')
s.rindex('l')
u.find('字')
s.count('l')
'aaaa'.count('aa')
s.count('')
u.count('')
s.count('l', 4)
s.find('', 100)
s.find('l', -3)
s.replace('l', 'L')
s.replace('l', 'L', 1)
'abc'.replace('', '-')
'abc'.replace('', '-', 2)
'aXbX'.replace('X', '')
', '.join(ls)
''.join(['a'])
'-'.join('abc')
','.join([])
','.join(l)
'abc'.isalpha()
'a1'.isalnum()
'12'.isdigit()
'12a'.isdigit()
''.isalpha()
' \n'.isspace()
'ABC'.isupper()
'abc'.islower()
'Ab Cd'.istitle()
'a b'.isidentifier()
'a_1'.isidentifier()
'é'.isalpha()
'½'.isnumeric()
'٣'.isdecimal()
'é'.isascii()
''.isascii()
'a\n'.isprintable()
'42'.zfill(5)
'-42'.zfill(5)
'ab'.ljust(5, '.')
'ab'.rjust(5)
'ab'.center(5, '*')
'abc'.center(6, '*')
'ab'.ljust(1)
'prefix-x'.removeprefix('prefix-')
'x.txt'.removesuffix('.txt')
s.removeprefix('zz')
'a=b=c'.partition('=')
'a=b=c'.rpartition('=')
'abc'.partition('x')
'abc'.rpartition('x')
'a\tb'.expandtabs(4)
'{} {}'.format(1, 'a')
'{1} {0}'.format(1, 2)
'{a}-{b[0]}-{b[k]}'.format(a=1, b={'k': 2, 0: 3})
'{:>5}|{:<5}|{:^5}|{:*^5}'.format('a', 'b', 'c', 'd')
'{:05.1f} {:+d} {:x} {:#x} {:b} {:,}'.format(3.14159, 5, 255, 255, 5, 1234567)
'{{}}'.format()
'{!r}'.format('a')
'{:.3}'.format('abcdef')
'{:%}'.format(0.25)
'{:e}'.format(12345.678)
'{:g}'.format(1e10)
'{:08.3f}'.format(-3.14159)
'{0.x}'.format(1)
'{'.format()
'{2}'.format(1)
'{x}'.format(1)
'{:{w}}'.format('a', w=4)
'{:d}'.format('a')
'{:_}'.format(1234567)
'%s and %s' % ('a', 1)
'%d%%' % 5
'%5.2f|%-5d|%05d|%+d' % (3.14159, 42, 42, 42)
'%x %X %o %#x' % (255, 255, 8, 255)
'%e %g %G' % (12345.678, 0.00001, 1e20)
'%(a)s %(b)d' % {'a': 'x', 'b': 2}
'%r' % 'a'
'%s' % none
'%s' % [1, 2]
'%c' % 'a'
'%c' % 97
'%s' % ()
'%s %s' % 'a'
'%d' % 'a'
'a' % 1
'%' % 1
'%q' % 1
'%5s|%-5s|%.2s' % ('a', 'b', 'cde')
'%*d' % (5, 3)
'%s' % (1,)
'%s' % d
'a' % {}
'%d' % 3.9
'%i' % true
'%x' % 1.5
l.index(1)
l.index(9)
l.count(1)
l.copy()
(1, 2).index(2)
d.get('a')
d.get('q')
d.get('q', 5)
d.keys()
d.values()
d.items()
d.items()|list
d.keys()|list
d.copy()
de.items()
de.values()|list
d.keys()|length
(d.items()|list)[0][1]
d.get('items')
d.items()[0]
l.append(1)
l.append
d.update({})
d.pop('a')
l.pop()
l.sort()
d.setdefault('a', 1)
d.clear()
l.extend([1])
l.remove(1)
l.insert(0, 1)
l.reverse()
s.__class__
s.__class__.__mro__
l.__len__()
''.__class__.__bases__
missing.x
missing['x']
missing()
missing + 1
1 + missing
'a' + missing
missing + 'a'
-missing
missing < 1
1 < missing
missing[0]
missing[1:]
d.q.r
nothing.x
nothing['x']
nothing.x.y
s.foo
s.foo()
n.foo
n()
s()
l.x
l['x']
users[0].nope.deep
(1).real
missing ** 2
s + 1
1 + s
s - 1
s * s
l + s
l + (1,)
d + d
nothing + 1
'a' < 1
none < 1
[1] < 1
d < d
1 / 0
1 // 0
1 % 0
1.0 / 0
1.0 // 0
1 % 0.0
0 ** -1
10 ** 18
(1).x
'a' in 1
1 in 'a'
none in 'a'
l in d
{[]: 1}
d[[]]
l['a']
l[1.0]
s[1.0]
s['a']
[] in {}
s[::0]
l[::0]
l['a':]
d[1:2]
range(1, 10, 0)
range(200000)
range('a')|abs(1)
n|nope
n is nope
1|upper()
'a'|upper(1)
'a'|trim(1)
l|join(1, 2, 3)
raise_exception('boom')
raise_exception(1)
raise_exception()
namespace(1)
namespace([1])
dict(1)
dict([1])
dict(['ab'])
cycler()
joiner()()
strftime_now(1)
none|items
'a'|items
n|list
n|first
n|length
none|length
l|map
l|map('nope')|list
l|select('nope')|list
users|selectattr|list
users|map(attribute='x.y')|list
l|sort(attribute='x')
[1, none]|max
n|join
none|join
'a'|round
none|round
none|abs
s|sum
ls|sum
none|indent
n|indent
d|dictsort(by='x')
1.5|round(1, 'x')
n|reverse
none|reverse
'x'|int('y')
none|trim
true|upper
n|replace('7')
n|format(1)
l|first(1)
"""

WHITESPACE = [
    "a\n{% if t %}\nb\n{% endif %}\nc\n", "a\n  {% if t %}  \n  b\n  {% endif %}\nc", "{% if t -%}\n\n  x  \n{%- endif %}\ny",
    "a {%- if t %} b {% endif -%} c", "  {%+ if t %}x{% endif %}", "\t{% set x = 1 %}\n{{ x }}\n", "{{ 1 }}\n{{ 2 }}\n",
    "  {{ n }}  \n  {{- n }}\n {{ n -}} \n x", "{# c #}\nx", "  {# c #}\nx", "a {#- c -#} b", "a\n\n{# c\nc #}\n\nb", "{#+ c +#}\nx",
    "{% raw %}{{ x }}{% if %}{% endraw %}", "  {% raw %}\n {{ x }}\n  {% endraw %}\ny", "a {%- raw -%} {{ b }} {%- endraw -%} c",
    "{% raw -%}\n x\n{%- endraw +%}\ny", "a\r\nb\r{% if t %}\r\nc{% endif %}\r\n", "x\n\n", "x\r\n", "\n", "", "\n\n", "{{ 'a\nb\r\nc' }}",
    "{% if t %}\n{{ n }}\n{% endif %}\n", "{% for i in l %}\n  {{ i }}\n{% endfor %}\nend", "{% for i in l -%}\n  {{ i }}\n{%- endfor %}\nend",
    "{% if t +%}\nx{% endif %}", "{% if t %}\n\nx{% endif %}", "a{% if t %}  \nx{% endif %}", "\u00a0{% if t %}x{% endif %}\u00a0",
    "{{ '}}' }}{{ '%}' }}", "{{ {'a': {'b': 1}} }}", "{{ {'a': {'b': 1}}}}", "{{-1}}{{- 1}} {{+1}}", "{%- set x -%} a {%- endset -%} [{{ x }}]",
    "a{ {b}} {c} %} }} #}", "{{n}}{{n}}", "{%if t%}x{%endif%}", "{% if t %}a{% else %}\nb{% endif %}", "  {{- '' -}}  x", "x  {%- if t %}{% endif %}",
    " {% set a = 1 %} {% set b = 2 %} x", "a\n {% set a = 1 %} {% set b = 2 %}\n x", "{% set a = 1 %}\n {% set b = 2 %}\n  x", "{#a#}{#b#}\n", "\u2028 {%- if t %}x{% endif %}",
]

STATEMENTS = [
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}<{{ loop.nextitem }} {{ loop.cycle('a', 'b') }} {{ loop.changed(i > 1) }} {{ loop.depth }};{% endfor %}",
    "{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}", "{% for i in l %}{{ loop }}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }},{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in u %}[{{ c }}]{% endfor %}",
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for a, b in [(1,)] %}{% endfor %}",
    "{% for a, b in [1] %}{% endfor %}", "{% for i in le %}x{% else %}empty{% endfor %}", "{% for i in missing %}x{% else %}empty{% endfor %}",
    "{% for i in n %}{% endfor %}", "{% for i in none %}{% endfor %}", "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}", "{% for i in l if i > 1 %}{{ i }}{{ loop.index }}{{ loop.length }}{{ loop.last }}{% endfor %}",
    "{% for i in l if i > 5 %}x{% else %}none{% endfor %}", "{% for u in users if u.tags is defined and u.tags %}{{ u.name }}{% endfor %}",
    "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [1] %}{% break %}{% else %}E{% endfor %}", "{% for i in [1, 2] %}{% continue %}{% else %}E{% endfor %}", "{% break %}", "{% for i in l %}{% endfor %}{% continue %}",
    "{% for i in l %}{% for j in ls %}{{ loop.index }}{{ i }}{{ j }} {% endfor %}{{ loop.index }};{% endfor %}", "{% for i in l %}{% else %}{{ loop }}{% endfor %}{{ loop is defined }}",
    "{% for i in l %}{{ loop.nope }}{{ loop['index'] }}{% endfor %}", "{% for loop in l %}{% endfor %}", "{% for i in l %}{% set loop = 1 %}{% endfor %}",
    "{% set ns = namespace(last=0) %}{% for i in l if i > ns.last %}{% set ns.last = i %}{{ i }}{% endfor %}{{ ns.last }}",
    "{% set ns = namespace(last=0) %}{% for i in l if i > ns.last %}{{ loop.last }}{% set ns.last = i %}{{ i }}{% endfor %}",
    "{% set x = 1 %}{% for i in l %}{{ x }}{% set x = i %}{{ x }}{% endfor %}{{ x }}", "{% if t %}{% set x = 1 %}{% endif %}{{ x }}", "{% if no %}{% set n = 1 %}{% endif %}{{ n }}",
    "{% for i in [1] %}{{ n }}{% endfor %}{% set n = 5 %}{{ n }}", "{{ n }}{% set n = 5 %}{% for i in [1] %}{{ n }}{% set n = 6 %}{{ n }}{% endfor %}{{ n }}",
    "{% for i in [1, 2] %}{% if loop.first %}{% set x = 'a' %}{% endif %}[{{ x }}]{% endfor %}", "{% for i in [1, 2] %}{% if i == 2 %}{% set n = 0 %}{% else %}{% set q = 1 %}{% endif %}{{ n }}{{ q|length if q is string else q }}{% endfor %}",
    "{% set x, y = 1, 2 %}{{ x }}{{ y }}", "{% set x = 1, %}{{ x }}", "{% set (x, y) = (1, 2) %}{{ x + y }}", "{% set x, y = 1 %}", "{% set ns = namespace() %}{% set ns.a, b = 1, 2 %}{{ ns.a }}{{ b }}",
    "{% set n.x = 1 %}", "{% set nope.x = 1 %}", "{% set d.x = 1 %}", "{% set x.y.z = 1 %}", "{% set x[0] = 1 %}", "{% set 1 = 2 %}", "{% set none = 2 %}", "{% set x %}", "{% set x = %}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}{{ x|length }}", "{% set x | upper | trim %} ab {% endset %}[{{ x }}]", "{% set x %}{% set y = 1 %}{{ y }}{% endset %}{{ x }}{{ y }}",
    "{% set ns = namespace(a=1, b='x') %}{% set ns.a = ns.a + 1 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}{{ ns.c is defined }}", "{% set ns = namespace(d) %}{{ ns.a }}{{ ns['b'] }}", "{% set ns = namespace() %}{% set ns.l = [ns] %}{{ ns.l|length }}",
    "{% set ns = namespace() %}{% set ns._x = 1 %}{{ ns._x }}", "{% set ns = namespace() %}{% set ns.x %}ab{% endset %}{{ ns.x }}",
    "{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }} {{ m() }}", "{% macro m() %}{{ n }}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m(a) %}{{ a is defined }}{% endmacro %}{{ m() }}{{ m(none) }}",
    "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}", "{% macro m(a) %}{{ varargs }}{% endmacro %}{{ m(1, 2) }}", "{% macro m() %}{{ caller() }}{% endmacro %}{% call m() %}x{{ n }}{% endcall %}",
    "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a }}-{{ b }}{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}",
    "{% macro m(n) %}{% if n > 0 %}{{ n }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{{ m() }}{% macro m() %}x{% endmacro %}",
    "{% macro m() %}{% set x = 2 %}{{ x }}{% endmacro %}{% set x = 1 %}{{ m() }}{{ x }}", "{% for i in l %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m() %}x{% endmacro %}{{ m }}{{ m.name }}",
    "{% macro m(x) %} {{ x }} {% endmacro %}{{ m(1)|trim }}{{ m(2) is string }}", "{% macro m(a, a) %}{% endmacro %}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(*[1]) }}{{ m(**{'x': 2}) }}", "{% macro m(caller) %}{{ caller() }}{% endmacro %}",
    "{% if t %}{% macro m() %}1{% endmacro %}{% else %}{% macro m() %}2{% endmacro %}{% endif %}{{ m() }}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b') | upper %}aXa{% endfilter %}", "{% filter trim %} {% set x = 1 %}{{ x }} {% endfilter %}{{ x }}", "{% for i in l %}{% filter upper %}{% break %}{% endfilter %}{% endfor %}x",
    "{% with %}{% set x = 1 %}{{ x }}{% endwith %}{{ x }}", "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with n = 1, m = n %}{{ n }}{{ m }}{% endwith %}{{ n }}", "{% with a, b = (1, 2) %}{{ a }}{% endwith %}" ,
    "{% generation %}x{{ n }}{% endgeneration %}", "{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}{{ x }}", "{% for i in l %}{% generation %}{{ loop.index }}{{ i }}{% endgeneration %}{% endfor %}",
    "{% if n > 5 and s or no %}a{% elif z %}b{% else %}c{% endif %}", "{% if z %}a{% elif n %}b{% endif %}", "{% if nothing %}a{% endif %}x", "{% if missing %}a{% else %}b{% endif %}", "{% if n == 7: %}x{% endif %}", "{% if 1, %}x{% endif %}",
    "{% print n, s %}", "{% do 1 %}", "{% nope %}", "{% endif %}", "{% if t %}", "{% for i in l %}{% endif %}", "{% if t %}{% endfor %}{% endif %}", "{{", "{{ n", "{{ n }", "{% if t", "{# x", "{% raw %}x", "{{ }}", "{{ n n }}", "{{ 1 + }}", "{{ (1 }}", "{{ [1 }}", "{{ 1) }}", "{{ 'a }}",
    "{{ a.1b }}", "{{ n|nope }}", "{{ n is nope }}", "{% if no %}{{ n|nope }}{% endif %}ok", "{% if t %}{{ n|nope }}{% endif %}", "{{ n|nope if no else 1 }}", "{% if no %}{% for i in l %}{{ i|nope }}{% endfor %}{% endif %}", "{{ n is string is string }}", "{{ 1 is divisibleby }}", "{{ f(**{}, 1) }}", "{{ range(a=1, 2) }}", "{{ not }}", "{{ a b }}", "{{ n ? 1 }}", "{{ n & 1 }}", "{{ n $ }}", "{{ !n }}", "{{ x = 1 }}", "{{ n; }}",
    "line1\nline2 {{ n }}\n{% if t %}\n{{ x y }}\n{% endif %}", "a\n\n{# c\n#}\n{{ 'x\ny' }}\n{% nope %}", "{% set x = [\n1,\n2,\n3\n%}", "{% raw %}\n\n{% endraw %}\n{{ ) }}", "\n{%- if t -%}\n\n{{ 1 1 }}{% endif %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.next() }}{{ c.next() }}{% set _ = c.reset() %}{{ c.next() }}", "{% set j = joiner('; ') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}", "{% set j = joiner() %}{{ j() }}a{{ j() }}b",
    "{{ (l|select)|string == '' }}", "{% set g = l|map('string') %}{{ g|list }}{{ g|list }}", "{% if le|select %}true{% endif %}", "{{ 'a' if missing.x else 1 }}", "{% for x in missing.y %}{% endfor %}", "{{ {'loop': 1}.loop }}",
    "{% set x = missing %}{{ x is defined }}{{ x }}", "{% set m = 'upper' %}{{ s|map(m)|join }}", "{{ ''|default(missing)|default('z') }}", "{{ [missing, 1]|first is defined }}", "{{ d.items() | map(attribute=0) | join(',') }}", "{{ d | items | map('first') | join(',') }}", "{{ users | map(attribute='name') | map('lower') | sort | join('/') }}",
    "{{ caller }}{{ varargs }}{{ super is defined }}", "{{ True }}{{ False }}{{ None }}{{ true }}{{ none }}", "{{ n }}{{ f }}{{ l }}{{ d }}{{ nothing }}{{ missing }}{{ t }}", "{{ s }}{{ q }}{{ html }}",
    "{{ raise_exception('Line one\nline two') }}", "{% if not users %}{{ raise_exception('no') }}{% endif %}ok", "{% set x = raise_exception %}{{ x('later') }}", "{{ ['a', 'b'].append('c') }}", "{% set l = l + [4] %}{{ l }}", "{{ l.append }}", "{{ namespace.__init__ }}", "{{ s.format.__globals__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}", "{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}", "{{ cycler.__init__.__globals__.os.popen('id').read() }}", "{{ '{0.__class__}'.format(1) }}",
    "{{ loop }}", "{{ [loop] }}", "{% set a = b = 1 %}", "{% for a.b in l %}{% endfor %}", "{% for in l %}{% endfor %}", "{% for i l %}{% endfor %}", "{% macro %}{% endmacro %}", "{% call x %}{% endcall %}", "{% filter %}x{% endfilter %}", "{% set %}", "{% with a %}{% endwith %}", "{% if %}{% endif %}",
]

QWEN_CODER_STYLE = """{% macro render_item_list(item_list, tag_name='required') %}
    {%- if item_list is defined and item_list is iterable and item_list | length > 0 %}
        {%- if tag_name %}{{- '\\n<' ~ tag_name ~ '>' -}}{% endif %}
        {{- '[' }}
        {%- for item in item_list -%}
            {%- if loop.index > 1 %}{{- ', ' }}{% endif -%}
            {%- if item is string -%}{{ '`' ~ item ~ '`' }}{%- else -%}{{ item }}{%- endif -%}
        {%- endfor -%}
        {{- ']' }}
        {%- if tag_name %}{{- '</' ~ tag_name ~ '>' -}}{% endif %}
    {%- endif %}
{% endmacro %}
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if system_message is defined %}
    {{- "<|im_start|>system\\n" + system_message }}
{%- elif tools is iterable and tools | length > 0 %}
    {{- "<|im_start|>system\\nYou can call tools." }}
{%- endif %}
{%- if tools is iterable and tools | length > 0 %}
    {{- "\\n\\n# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}
        {%- if tool.function is defined %}{%- set tool = tool.function %}{%- endif %}
        {{- "\\n<function>\\n<name>" ~ tool.name ~ "</name>" }}
        {{- '\\n<description>' ~ (tool.description | trim) ~ '</description>' }}
        {{- '\\n<parameters>' }}
        {%- for param_name, param_fields in tool.parameters.properties | items %}
            {{- '\\n<parameter>\\n<name>' ~ param_name ~ '</name>' }}
            {%- if param_fields.type is defined %}{{- '\\n<type>' ~ (param_fields.type | string) ~ '</type>' }}{%- endif %}
            {{- render_item_list(param_fields.enum, 'enum') }}
            {%- for json_key in param_fields.keys() | reject("in", ["type", "description", "enum"]) %}
                {%- set json_value = param_fields[json_key] %}
                {%- if json_value is mapping %}
                    {{- '\\n<' ~ json_key ~ '>' ~ (json_value | tojson | safe) ~ '</' ~ json_key ~ '>' }}
                {%- else %}
                    {{- '\\n<' ~ json_key ~ '>' ~ (json_value | string) ~ '</' ~ json_key ~ '>' }}
                {%- endif %}
            {%- endfor %}
            {{- '\\n</parameter>' }}
        {%- endfor %}
        {{- render_item_list(tool.parameters.required, 'required') }}
        {{- '\\n</parameters>\\n</function>' }}
    {%- endfor %}
    {{- "\\n</tools>" }}
{%- endif %}
{%- if system_message is defined or (tools is iterable and tools | length > 0) %}{{- '<|im_end|>\\n' }}{%- endif %}
{%- for message in loop_messages %}
    {%- if message.role == "assistant" and message.tool_calls is defined and message.tool_calls is iterable and message.tool_calls | length > 0 %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content is defined and message.content is string and message.content | trim | length > 0 %}
            {{- '\\n' + message.content | trim + '\\n' }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n<function=' + tool_call.name + '>\\n' }}
            {%- if tool_call.arguments is defined %}
                {%- for args_name, args_value in tool_call.arguments | items %}
                    {{- '<parameter=' + args_name + '>\\n' }}
                    {%- set args_value = args_value if args_value is string else args_value | tojson | safe %}
                    {{- args_value }}
                    {{- '\\n</parameter>\\n' }}
                {%- endfor %}
            {%- endif %}
            {{- '</function>\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role in ["user", "system", "assistant"] %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.previtem and loop.previtem.role != "tool" %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if not loop.last and loop.nextitem.role != "tool" %}{{- '<|im_end|>\\n' }}{%- elif loop.last %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

PLAIN_STYLE = """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}{% if message['role'] == 'user' %}{{ '[U] ' + message['content'] | trim + ' [/U]' }}{% else %}{{ ' ' + message['content'] | trim + ' ' + eos_token }}{% endif %}{% endfor %}"""

PARTS_STYLE = """{%- set ns = namespace(images=0, system='') -%}
{%- for m in messages if m.role == 'system' -%}{%- set ns.system = ns.system ~ m.content -%}{%- endfor -%}
{%- if ns.system -%}<|sys|>{{ ns.system | trim }}<|end|>{%- endif -%}
{%- for m in messages | rejectattr('role', 'equalto', 'system') -%}
<|{{ m.role }}|>
{%- if m.content is string -%}{{ m.content }}
{%- else -%}{%- for part in m.content -%}
{%- if part.type == 'image' or 'image_url' in part -%}{%- set ns.images = ns.images + 1 -%}[image {{ ns.images }}]
{%- elif 'text' in part -%}{{ part['text'] }}{%- endif -%}
{%- endfor -%}{%- endif -%}<|end|>
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}
"""

_TOOL = {"type": "function", "function": {"name": "get_weather", "description": " Get <weather> ", "parameters": {
    "type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "Where", "maxLength": 10, "x": {"a": [1, 2.0]}},
        "unit": {"type": ["string", "null"], "enum": ["c", "f", 1]}}}}}
_CHAT = [{"role": "user", "content": "hi <b> & 漢"}, {"role": "assistant", "content": " yes\n"}]
_CALLS = [{"role": "user", "content": "w?"}, {"role": "assistant", "content": "", "tool_calls": [
    {"function": {"name": "get_weather", "arguments": {"city": "Łódź", "n": 1.0, "l": [1, "<"], "o": None}}}]},
    {"role": "tool", "content": "{\"t\": 1}"}, {"role": "tool", "content": "x"}, {"role": "assistant", "content": "done"}]


def chats():
    system = [{"role": "system", "content": "be brief"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image"}, {"image_url": "x"}]}]
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    found = []
    for style in (QWEN_CODER_STYLE, PLAIN_STYLE, PARTS_STYLE):
        for messages in (_CHAT, system + _CHAT, _CALLS, system + _CALLS, system, parts, []):
            for extra in ({}, {"add_generation_prompt": True}, {"tools": [_TOOL, _TOOL["function"]]}):
                found.append((style, {"messages": messages, **tokens, **extra}))
    return found


def groups():
    wrap = lambda text: ["{{ " + line + " }}" for line in text.strip("\n").split("\n")]  # noqa: E731
    return {"expressions": wrap(EXPRESSIONS), "filters": wrap(FILTERS), "methods": wrap(METHODS),
            "whitespace": WHITESPACE, "statements": STATEMENTS, "chats": chats()}
