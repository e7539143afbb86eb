/**
 * The one script of the pages: what the server draws anew takes the place of what is there.
 *
 * A page asks its own address for events and gets finished HTML for its sections, escaped where everything is escaped. It
 * works as well without: the browser then loads it again every few seconds. A page nobody looks at asks for nothing.
 */

/** Allowed by its hash. */
export const SCRIPT = `
(() => {
  const state = document.getElementById('live');
  let source;
  const paint = (id, text) => {
    const at = document.getElementById(id);
    if (!at) return;
    const focused = at.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
    at.innerHTML = text;
    for (const link of focused === null ? [] : at.querySelectorAll('a')) {
      if (link.getAttribute('href') === focused) return link.focus({ preventScroll: true });
    }
  };
  const stop = () => { if (source) source.close(); source = undefined; };
  const follow = () => {
    if (source || document.hidden) return;
    source = new EventSource(location.pathname);
    source.onopen = () => { state.textContent = 'Live.'; };
    source.onerror = () => {
      state.textContent = 'Not live at the moment: asking again.';
      if (source && source.readyState === 2) { stop(); setTimeout(() => location.reload(), 15000); }
    };
    source.addEventListener('part', (event) => {
      const part = JSON.parse(event.data);
      paint(part.id, part.html);
    });
    source.addEventListener('end', () => {
      stop();
      document.removeEventListener('visibilitychange', look);
      state.textContent = 'Ended.';
    });
  };
  const look = () => (document.hidden ? stop() : follow());
  document.addEventListener('visibilitychange', look);
  follow();
})();
`;
