/** Finds a secret in whatever was produced, in every dress it may have been put in on the way. */

/** What encodes a byte otherwise at each of its three places: the part that is the same whatever stands around it. */
function base64Cores(secret: string): string[] {
  const bytes = Buffer.from(secret);
  return [0, 1, 2].map((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .replace(/=+$/, '');
    const endsWhole = (shift + bytes.length) % 3 === 0;
    return text.slice(Math.ceil((shift * 4) / 3), endsWhole ? undefined : -1);
  });
}

const XML: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

/** Name of a form → the secret in it. */
export function formsOf(secret: string): Map<string, string> {
  const json = JSON.stringify(secret).slice(1, -1);
  const forms = new Map([
    ['plain', secret],
    ['JSON', json],
    ['JSON in JSON', JSON.stringify(json).slice(1, -1)],
    ['URL', encodeURIComponent(secret)],
    ['form', new URLSearchParams([['', secret]]).toString().slice(1)],
    ['XML', secret.replace(/[&<>"]/g, (character) => XML[character] ?? '')],
    ['hex', Buffer.from(secret).toString('hex')],
  ]);
  for (const [at, core] of base64Cores(secret).entries()) {
    forms.set(`base64 ${at}`, core);
    forms.set(`base64url ${at}`, core.replaceAll('+', '-').replaceAll('/', '_'));
  }
  return forms;
}

/** The first secret found, with its form and what stands around it; undefined when there is none. */
export function findLeak(
  produced: readonly string[],
  secrets: Readonly<Record<string, string>>,
): string | undefined {
  for (const [name, secret] of Object.entries(secrets)) {
    for (const [form, text] of formsOf(secret)) {
      for (const one of produced) {
        const at = one.indexOf(text);
        if (at === -1) continue;
        const around = one.slice(Math.max(0, at - 120), at);
        return `${name} as ${form} after: ${around}`;
      }
    }
  }
  return undefined;
}
