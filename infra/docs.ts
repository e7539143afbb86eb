/** Writes the pages of docs/ that are made from the code. A test of each page says when this has to run. */
import { writeFileSync } from 'node:fs';
import { commandLinePage, settingsPage } from '../src/commands/pages.ts';

writeFileSync(new URL('../docs/settings.md', import.meta.url), settingsPage());
writeFileSync(new URL('../docs/command-line.md', import.meta.url), await commandLinePage());
