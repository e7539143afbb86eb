/**
 * A value that must not be seen: a password, a token.
 *
 * It prints as *** wherever it may end up by mistake (log line, JSON answer, template string, inspect); only
 * `reveal` gives the text, and only the place that sends it calls that.
 */

export interface Secret {
  reveal(): string;
  toString(): string;
  toJSON(): string;
}

const MASK = '***';

/** Wraps a secret text. */
export function createSecret(text: string): Secret {
  const secret: Secret & Record<symbol, unknown> = {
    reveal: () => text,
    toString: () => MASK,
    toJSON: () => MASK,
    [Symbol.for('nodejs.util.inspect.custom')]: () => MASK,
    [Symbol.toPrimitive]: () => MASK,
  };
  return secret;
}

/** Says whether a value is a Secret. */
export function isSecret(value: unknown): value is Secret {
  return typeof value === 'object' && value !== null && 'reveal' in value && String(value) === MASK;
}
