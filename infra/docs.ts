/** Writes the pages of docs/ and the rules of infra/ that are made from the code. A test of each says when this has to run. */
import { writeFileSync } from 'node:fs';
import { commandLinePage, settingsPage } from '../src/commands/pages.ts';
import { apiPage, errorsPage } from '../src/http/describe.ts';
import { ROUTES } from '../src/http/routes/index.ts';
import { dashboardJson } from './monitoring/dashboard.ts';
import { monitoringPage } from './monitoring/page.ts';
import { r2Rules, s3Rules } from './rules.ts';

writeFileSync(new URL('../docs/settings.md', import.meta.url), settingsPage());
writeFileSync(new URL('../docs/command-line.md', import.meta.url), await commandLinePage());
writeFileSync(new URL('../docs/api.md', import.meta.url), apiPage(ROUTES));
writeFileSync(new URL('../docs/errors.md', import.meta.url), errorsPage());
writeFileSync(new URL('./lifecycle.json', import.meta.url), s3Rules());
writeFileSync(new URL('./r2/lifecycle.json', import.meta.url), r2Rules());
writeFileSync(new URL('../docs/monitoring.md', import.meta.url), monitoringPage());
writeFileSync(new URL('./monitoring/dashboard.json', import.meta.url), dashboardJson());
