/**
 * Leaves in a built tree what the program can reach, and says in an SBOM what that is. A step of the image's build.
 *
 * Packages bring several forms of themselves: for browsers, for bundlers, with types, maps and sources. esbuild follows every import
 * from the program's entry, the late ones too, by the rules Node resolves with; nothing is bundled: the files that run in the image
 * are the very files that were tested. What is not reached goes, whole packages with it; what is kept of a package keeps its
 * package.json and its licence. All kinds of machines get the same tree, since nothing native is in it.
 *
 *   node infra/prune-modules.ts <folder> <entry>… [--sbom <npm's CycloneDX file>]
 *
 * The parts list comes from npm with development in it: told to omit that, npm 11 omits what both need.
 * Not followed: names put together at run time. test/image/check.sh loads every file of the program in the image.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

/** Where things are that may go; everything else in the folder is left alone. */
const PRUNED_FOLDERS = ['node_modules', 'dist'];
/** msgpackr does without its native helper, which is another one on every kind of machine. */
const LEFT_OUT = ['msgpackr-extract'];
const LEGAL = /^(licen[cs]e|copying|notice)/i;

/** What is read of CycloneDX 1.5, as npm sbom writes it. */
export interface Sbom {
  serialNumber: string;
  metadata: { timestamp: string; component: { 'bom-ref': string; name: string } };
  components: { 'bom-ref': string }[];
  dependencies: { ref: string; dependsOn: string[] }[];
}

/** Files below folder that the entries can load, as paths from it. Errors: an import that leads nowhere. */
export async function reachedFiles(folder: string, entries: readonly string[]) {
  const ours = forDevelopment(folder);
  const { metafile } = await build({
    absWorkingDir: folder,
    entryPoints: [...entries],
    outdir: join(folder, 'never-written'),
    bundle: true,
    splitting: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'node',
    // what Node knows beside node, import, require and default; without "module", which only bundlers take
    conditions: ['module-sync', 'node-addons'],
    mainFields: ['main'],
    external: [...LEFT_OUT, ...ours],
    treeShaking: false,
    ignoreAnnotations: true,
    logLevel: 'silent',
  });
  for (const [file, { imports }] of Object.entries(metafile.inputs)) {
    // a require may be a try for something optional, an import is none
    const isOurs = (path: string) => ours.some((name) => `${path}/`.startsWith(`${name}/`));
    const wrong = imports.find(({ path, kind }) => kind.includes('import') && isOurs(path));
    if (wrong) throw new Error(`${file} imports what is for development: ${wrong.path}`);
  }
  return new Set(Object.keys(metafile.inputs));
}

/** Names of packages that are there for development only: some look for one of them and do without. */
function forDevelopment(folder: string): string[] {
  const lock = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  const nameOf = (path: string) => path.replace(/^.*node_modules\//, '');
  const all = Object.entries(lock.packages).filter(([path]) => path !== '');
  const others = new Set(all.filter(([, { dev }]) => !dev).map(([path]) => nameOf(path)));
  return [...new Set(all.map(([path]) => nameOf(path)))].filter((name) => !others.has(name));
}

/** Removes from the folder what the entries cannot load. Returns the packages that stay, as paths from it. */
export async function prune(folder: string, entries: readonly string[]): Promise<Set<string>> {
  const reached = await reachedFiles(folder, entries);
  const packages = new Set([...reached].flatMap((path) => packageOf(path) ?? []));
  for (const name of PRUNED_FOLDERS) {
    removeFrom(folder, name, (path) => isKept(path, reached, packages));
  }
  return packages;
}

function isKept(path: string, reached: Set<string>, packages: Set<string>): boolean {
  if (reached.has(path)) return true;
  const home = packageOf(path);
  // the program's own maps: a trace shall name lines of the source
  if (home === undefined) return path.endsWith('.js.map') && reached.has(path.slice(0, -4));
  if (!packages.has(home)) return false;
  if (basename(path) === 'package.json') {
    const own = dirname(path);
    return own === home || [...reached].some((file) => file.startsWith(`${own}/`));
  }
  return dirname(path) === home && LEGAL.test(basename(path));
}

/** The package a file is of; undefined for the program's own. */
function packageOf(path: string): string | undefined {
  return /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0];
}

function removeFrom(folder: string, path: string, isWanted: (path: string) => boolean): void {
  for (const entry of readdirSync(join(folder, path), { withFileTypes: true })) {
    const inner = `${path}/${entry.name}`;
    if (entry.isDirectory()) removeFrom(folder, inner, isWanted);
    else if (entry.isSymbolicLink() || !isWanted(inner)) rmSync(join(folder, inner));
  }
  if (readdirSync(join(folder, path)).length === 0) rmdirSync(join(folder, path));
}

/** `name@version` of the packages at these paths: what npm calls them in a parts list. */
export function refsOf(folder: string, packages: Iterable<string>): Set<string> {
  return new Set(
    [...packages].map((path) => {
      const own = JSON.parse(readFileSync(join(folder, path, 'package.json'), 'utf8')) as {
        name: string;
        version: string;
      };
      return `${own.name}@${own.version}`;
    }),
  );
}

/**
 * The parts list with these packages and no others; of the same parts always the same text, but for the date. Errors: a package it
 * does not name.
 */
export function keepInSbom(sbom: Sbom, refs: ReadonlySet<string>, createdMs: number): Sbom {
  const byRef = new Map(sbom.components.map((part) => [part['bom-ref'], part]));
  const missing = [...refs].filter((ref) => !byRef.has(ref));
  if (missing.length > 0) throw new Error(`the parts list lacks packages missing=${missing}`);
  const components = [...byRef].filter(([ref]) => refs.has(ref)).map(([, part]) => part);
  const dependencies = sbom.dependencies
    .filter(({ ref }, index) => index === 0 || refs.has(ref))
    .map((entry) => ({ ...entry, dependsOn: entry.dependsOn.filter((ref) => refs.has(ref)) }));
  const { component } = sbom.metadata;
  const hash = createHash('sha256').update(JSON.stringify(components)).digest('hex');
  const uuid = hash.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, '$1-$2-8$3-8$4-$5');
  return {
    ...sbom,
    serialNumber: `urn:uuid:${uuid}`,
    metadata: {
      ...sbom.metadata,
      timestamp: new Date(createdMs).toISOString(),
      // npm says the folder's name
      component: { ...component, name: component['bom-ref'].replace(/@[^@]*$/, '') },
    },
    components,
    dependencies,
  };
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { sbom: { type: 'string' } },
    allowPositionals: true,
  });
  const [place = '.', ...entries] = positionals;
  const folder = resolve(place);
  const packages = await prune(folder, entries);
  if (values.sbom === undefined) return;
  const sbom = JSON.parse(readFileSync(values.sbom, 'utf8')) as Sbom;
  // biome-ignore lint/style/noProcessEnv: the convention of reproducible builds
  const epoch = process.env.SOURCE_DATE_EPOCH;
  const createdMs = epoch ? Number(epoch) * 1000 : Date.now();
  const kept = keepInSbom(sbom, refsOf(folder, packages), createdMs);
  writeFileSync(values.sbom, `${JSON.stringify(kept, null, 2)}\n`);
}

if (process.argv[1]?.endsWith(`${sep}prune-modules.ts`)) await main();
