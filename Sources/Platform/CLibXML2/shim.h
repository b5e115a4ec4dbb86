#pragma once
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>
#include <libxml/xmlerror.h>

// What Swift cannot call or what differs between the versions of libxml2.

/// `xmlFree` is a variable of function type, which Swift 6 does not let anyone read.
static inline void windlass_xml_free(void *pointer) { xmlFree(pointer); }

/// The error is `const` from libxml2 2.12 on.
typedef void (*windlass_xml_error_function)(void *context, const xmlError *error);

static inline void windlass_xml_set_error_function(xmlParserCtxtPtr context, windlass_xml_error_function function) {
    context->sax->serror = (xmlStructuredErrorFunc)function;
}

static inline void windlass_xpath_set_error_function(xmlXPathContextPtr context, windlass_xml_error_function function) {
    context->error = (xmlStructuredErrorFunc)function;
}

/// The operation limit exists from libxml2 2.9.10 on; counting starts anew.
static inline void windlass_xpath_limit_operations(xmlXPathContextPtr context, unsigned long count) {
#if LIBXML_VERSION >= 20910
    context->opLimit = count;
    context->opCount = 0;
#endif
}
