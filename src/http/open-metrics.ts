/**
 * The page of /metrics as OpenMetrics 1.0, for scrapers that ask for it (Prometheus does).
 *
 * Made from the older text format, of which it differs little: the family of a counter is named without `_total`, build_info is of
 * the type info, no empty lines, an end mark. The library can write both, but not in turn: writing this one renames its counters.
 */

export const OPENMETRICS = 'application/openmetrics-text; version=1.0.0; charset=utf-8';

/** Whether a scraper asks for it. Who takes both gets it: it is asked for by name only by those that read it. */
export function wantsOpenMetrics(accept: string | undefined): boolean {
  return (accept ?? '').split(',').some((part) => {
    const [type = '', ...params] = part.split(';').map((text) => text.trim().toLowerCase());
    return (
      type === 'application/openmetrics-text' && !params.some((text) => /^q=0(\.0*)?$/.test(text))
    );
  });
}

/** The same metrics in the other format. */
export function toOpenMetrics(text: string): string {
  const counters = new Set<string>();
  for (const [, name = ''] of text.matchAll(/^# TYPE (\w+)_total counter$/gm)) counters.add(name);
  const lines = text.split('\n').flatMap((line) => {
    if (line === '') return [];
    const [, what, name = '', rest = ''] = /^# (HELP|TYPE) (\w+) (.*)$/.exec(line) ?? [];
    if (what === undefined) return [line];
    const family = name.replace(/_total$/, '');
    const quoted = what === 'HELP' ? rest.replaceAll('"', '\\"') : rest;
    if (counters.has(family)) return [`# ${what} ${family} ${quoted}`];
    if (!name.endsWith('_info')) return [`# ${what} ${name} ${quoted}`];
    return [`# ${what} ${name.replace(/_info$/, '')} ${what === 'TYPE' ? 'info' : quoted}`];
  });
  return `${lines.join('\n')}\n# EOF\n`;
}
