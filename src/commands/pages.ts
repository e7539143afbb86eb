/** The pages of docs/ that are made from the code: settings and command line. Written by `npm run docs`. */
import { defaultText, SETTING_NAMES, type SettingName, settingMeta } from '../settings-table.ts';
import { SCOPES } from '../tokens.ts';
import { EXIT_CODES } from './exit-code.ts';
import { commandHelp } from './help.ts';
import { COMMANDS } from './index.ts';

/** docs/settings.md. */
export function settingsPage(): string {
  const groups = [...new Set(SETTING_NAMES.map((name) => settingMeta(name).group))];
  const tables = groups.map((group) => {
    const names = SETTING_NAMES.filter((name) => settingMeta(name).group === group);
    return `## ${group}

| name | meaning | default | example |
|---|---|---|---|
${names.map(settingRow).join('\n')}
`;
  });
  return `# Settings

<!-- Made from src/settings-table.ts by \`npm run docs\`; do not edit. -->

xvault is set by environment variables. An empty variable counts as unset. A name marked † may be given as
\`NAME_FILE\` instead: the file holds the value, one newline at its end is not part of it; setting both is a mistake.
\`xvault config\` prints every value with its source, secrets masked, and every mistake at once.
The AWS SDK reads its own variables (\`AWS_REGION\`, \`AWS_ACCESS_KEY_ID\`, \`AWS_PROFILE\`, web identity, roles …) untouched.
Traces are turned on by OpenTelemetry's own (\`OTEL_EXPORTER_OTLP_ENDPOINT\` …): see [monitoring.md](monitoring.md#traces).

${tables.join('\n')}
## Several pools: XVAULT_POOLS_FILE

A JSON list; the keys are those above in lower case.

\`\`\`json
[
  {
    "name": "office",
    "url": "https://10.0.0.11,https://10.0.0.12",
    "username": "xvault",
    "password_file": "/run/secrets/office-password",
    "ca_file": "/etc/xvault/office-ca.pem"
  },
  {
    "name": "lab",
    "url": "https://10.1.0.11",
    "username": "xvault",
    "password": "…",
    "fingerprint": "9F:86:D0:81:…"
  }
]
\`\`\`

## Several tokens: XVAULT_TOKENS_FILE

A JSON list of \`{name, sha256, scopes}\`; \`XVAULT_TOKENS\` holds the same where there are no files. Scopes: ${SCOPES.map((scope) => `\`${scope}\``).join(', ')}; none implies another.
\`printf %s "$TOKEN" | sha256sum\` prints the digest. To change a token, list old and new under the same name for a while.

\`\`\`json
[{ "name": "scheduler", "sha256": "9f86d081884c7d65…", "scopes": ["backup", "read"] }]
\`\`\`
`;
}

function settingRow(name: SettingName): string {
  const { description, example, secret } = settingMeta(name);
  const cells = [
    `\`${name}\`${secret ? ' †' : ''}`,
    description,
    defaultText(name) ?? '–',
    `\`${example}\``,
  ];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
}

/** docs/command-line.md. */
export async function commandLinePage(): Promise<string> {
  const sections: string[] = [];
  for (const [name, { load }] of Object.entries(COMMANDS)) {
    const { command } = await load();
    const text = commandHelp(name === 'config' ? withoutNotes(command) : command, false).trimEnd();
    sections.push(`## ${name}\n\n\`\`\`text\n${text}\n\`\`\`\n`);
  }
  const codes = Object.entries(EXIT_CODES).map(([code, text]) => `| ${code} | ${text} |`);
  return `# Command line

<!-- Made from src/commands/ by \`npm run docs\`; do not edit. -->

Results go to stdout, everything else to stderr. With \`--json\` the result has the shape of the HTTP API and an error is
one JSON object on stderr; fields may be added, so ignore those you do not know. \`NO_COLOR\` is respected.

${sections.join('\n')}
## Exit codes

| code | meaning |
|---|---|
${codes.join('\n')}

\`check\` answers with the four codes of Nagios instead: 0 ok, 1 warning, 2 critical, 3 unknown.
`;
}

/** The notes of \`config\` list all settings: the settings page has them. */
function withoutNotes<T extends { notes?: string }>({ notes: _, ...rest }: T): Omit<T, 'notes'> {
  return rest;
}
