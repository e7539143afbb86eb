/** What a Worker is given: variables and secrets are texts, bindings are objects. */

/** A variable as it stands in other environments: a table of wrangler.toml's [vars] arrives as the object it is. */
export function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return value === undefined || value === null ? undefined : JSON.stringify(value);
}

/** Said of a bucket that wrangler.toml does not bind. */
export const NO_BUCKET = 'is no binding of an R2 bucket: add it to [[r2_buckets]] in wrangler.toml';
