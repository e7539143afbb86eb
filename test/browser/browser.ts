/** Debian's Chromium, driven from outside, and what a person would look at on a page. */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';

/** Kept after the tests; .ci/run says where and what (docs/tests.md). */
const ARTIFACTS = process.env.TEST_ARTIFACTS || join(import.meta.dirname, '../../artifacts');
const SCREENSHOTS = join(ARTIFACTS, 'screenshots');

/** Where it is; undefined where it is not installed. */
export function findChromium(): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter);
  return folders.map((folder) => join(folder, 'chromium')).find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Started without a window. In containers there is no sandbox to be had; it only sees our own pages. */
export function openBrowser(executablePath: string): Promise<Browser> {
  return chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'],
  });
}

/** Kept for whoever looks at the results. */
export async function screenshot(page: Page, name: string): Promise<void> {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true });
}

/** Whatever a page complains of: its policy, scripts, requests that leave the house. */
export function complaintsOf(page: Page, origin: string): string[] {
  const complaints: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('request', (request) => {
    if (!request.url().startsWith(origin)) complaints.push(`asks ${request.url()}`);
  });
  return complaints;
}

/** Text whose contrast to what lies behind it is below 4.5, as it is drawn. */
export function paleTexts(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const channels = (color: string) => (color.match(/[\d.]+/g) ?? []).map(Number);
    const luminance = ([r = 0, g = 0, b = 0]: number[]) => {
      const [R = 0, G = 0, B = 0] = [r, g, b]
        .map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
      return 0.2126 * R + 0.7152 * G + 0.0722 * B;
    };
    const groundOf = (element: Element | null): number[] => {
      for (let at = element; at; at = at.parentElement) {
        const ground = channels(getComputedStyle(at).backgroundColor);
        if (ground.length === 3 || (ground[3] ?? 0) > 0) return ground;
      }
      return [255, 255, 255];
    };
    const pale: string[] = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      const text = walker.currentNode.textContent?.trim();
      if (!element || !text || element.getClientRects().length === 0) continue;
      const style = getComputedStyle(element);
      const isDrawn = element.closest('svg') !== null;
      const text1 = luminance(channels(isDrawn ? style.fill : style.color));
      const ground = luminance(groundOf(element));
      const contrast = (Math.max(text1, ground) + 0.05) / (Math.min(text1, ground) + 0.05);
      if (contrast < 4.5) pale.push(`${contrast.toFixed(2)} ${text.slice(0, 40)}`);
    }
    return pale;
  });
}

/** By how many pixels the page is wider than the window. */
export function overhang(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
}
